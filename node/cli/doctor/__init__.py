"""`doctor`, of every program: what is well, what is not, and what to do about it."""

from hypercluster.node.cli.doctor.commands import client_doctor, provider_doctor, verifier_doctor

__all__ = ["client_doctor", "provider_doctor", "verifier_doctor"]
