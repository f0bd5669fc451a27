"""Photos on disk: what is given to photos (`listing`), and their files to upright RGB (`reading`)."""
