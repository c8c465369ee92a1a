"""What a request tells, and the refusal to let it wait: those of a completion, named here as well."""

from hypercluster.node.client.events import Event as Event
from hypercluster.node.client.events import Queued as Queued
from hypercluster.node.client.line import QueueFull as QueueFull
