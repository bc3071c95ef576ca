"""x"""

from server.config import ServerConfig


def run(config: ServerConfig) -> None:
    """y"""
