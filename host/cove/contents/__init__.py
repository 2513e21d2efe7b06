"""What is in an image: the packages of its distribution and its languages, told by the files of its layers (docs/images-contents.md)."""
