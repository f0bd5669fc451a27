"""What reviewers change: decisions about masks, joined masks, and undo."""
