from .fetched import fetch_whole as fetch_whole
from .fetched import folder_of as folder_of
from .links import is_link as is_link
from .links import link_of as link_of
