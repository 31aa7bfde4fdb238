"""Where may this customer live: lawful first, then near, and always with its reasons.

`route({"country": "FR"})["cluster"]` works without any service. What may be asked, and what every
field of the answer means, is in docs of the HTTP interface and in `schema/`.
"""

from geo_router.router import route
from geo_router.tables import load

__all__ = ["load", "route"]
