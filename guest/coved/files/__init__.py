"""Files of containers: looked at, copied in and out, compared with their image, made an image of."""
