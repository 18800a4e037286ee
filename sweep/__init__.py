"""How many pretrained layers should stay frozen for my task? One sweep, one table, one verdict."""

__version__ = "0.1.0"
