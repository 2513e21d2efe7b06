"""The DNS server of containers: messages, what is answered, sockets and forwarding. It knows nothing of networks' making."""
