"""Which masks a reviewer looks at, in which order, and what is drawn of them."""
