"""The language of Dockerfiles: text in, typed instructions out. It knows nothing of images, files or engines."""
