"""The only room with libp2p in it: hosts, connections, discovery, and the order book of what is offered."""
