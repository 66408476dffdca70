"""What a child process runs first so that it reaches nothing beyond this machine."""

# Local sockets stay: the launcher watches executions over one. Anything beyond this machine raises.
BLOCK_SOCKETS = """
import socket
connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo
LOCAL = (None, "", "localhost", "127.0.0.1", "::1")
def check(host):
    if host not in LOCAL:
        raise RuntimeError(f"network blocked: {host}")
def connect_locally(self, address):
    if self.family != socket.AF_UNIX:
        check(address[0])
    return connect(self, address)
def resolve_locally(host, *rest, **more):
    check(host)
    return getaddrinfo(host, *rest, **more)
socket.socket.connect, socket.getaddrinfo = connect_locally, resolve_locally
"""
