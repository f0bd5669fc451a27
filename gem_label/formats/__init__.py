"""The file formats that masks and labels are exchanged in, one module a format."""
