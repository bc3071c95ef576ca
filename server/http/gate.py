"""Checks who may call, as soon as a request's head is there: before its route and its body."""

from collections.abc import Set
from dataclasses import replace

from server.http.api_keys import ApiKeys
from server.http.cors import Cors
from server.http.hosts import Hosts
from server.http.messages import RequestHead
from server.http.refusal import Refusal
from server.http.routing import Finder, Route


class Gate:
    """Stands in front of a router and is called in its place."""

    def __init__(
        self, router: Finder, hosts: Hosts, cors: Cors, keys: ApiKeys | None, public: Set[str]
    ) -> None:
        self._router = router
        self._hosts = hosts
        self._cors = cors
        self._keys = keys
        self._public = public
        """Paths that ask for no key."""

    def find(self, head: RequestHead) -> Route:
        """Return the route of a request that is allowed. Raises `Refusal`."""
        # HTTP/1.0 without Host passes: balancers send it, browsers never.
        if head.host and head.host not in self._hosts:
            raise Refusal(421, "the field host names a host that is not served here")
        fields = self._cors.fields(head)
        try:
            route = self._admit(head)
        except Refusal as refusal:
            raise Refusal(refusal.status, refusal.sentence, refusal.headers + fields) from None
        return replace(route, headers=fields) if fields else route

    def _admit(self, head: RequestHead) -> Route:
        preflight = self._cors.preflight(head)
        if preflight is not None:
            return preflight
        if self._keys is not None and head.path not in self._public:
            self._keys.check(head)
        return self._router.find(head)
