"""What a FiftyOne dataset holds of ours: fields, detections and their masks, and the log of decisions."""
