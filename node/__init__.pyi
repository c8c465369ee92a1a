from .traffic.connecting import connect as connect
