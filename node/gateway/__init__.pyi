from .errors import ApiError as ApiError
from .gateway import Gateway as Gateway
from .keyring import Keyring as Keyring
from .running import GatewayOptions as GatewayOptions
from .running import RunningGateway as RunningGateway
from .running import serve_gateway as serve_gateway
