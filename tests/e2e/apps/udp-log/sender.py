"""Sends a line to a collector, and says what it is acknowledged with. A datagram may be lost: it is sent again."""

import socket
import sys

host, line = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.settimeout(5)
    sender.connect((host, 514))
    for _ in range(5):
        sender.send(line.encode())
        try:
            print("line", sender.recv(100).decode().strip())
            break
        except OSError:
            continue
    else:
        sys.exit(f"{host} does not answer")
