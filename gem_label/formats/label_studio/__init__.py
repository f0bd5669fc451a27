"""Label Studio's tasks (JSON), with brush masks or polygons."""
