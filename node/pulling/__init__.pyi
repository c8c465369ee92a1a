from .fetched import fetch_whole as fetch_whole
from .links import is_link as is_link
from .links import link_of as link_of
