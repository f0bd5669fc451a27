"""Looking at a run without a server: a page of HTML, a contact sheet, and a picture of each image."""
