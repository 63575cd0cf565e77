"""The API's route for whoever runs the service: let the alias stand for another store."""

import asyncio

from fastapi import APIRouter

from fashionclip.errors import BusyError, FashionCLIPError
from fashionclip.serve.inputs import Json
from fashionclip.serve.routing import add_route
from fashionclip.serve.schemas import answers, requests
from fashionclip.serve.services import Services
from fashionclip.serve.switch import Switch


def add_routes(router: APIRouter, services: Services, switch: Switch | None) -> None:
    """Add the route that switches; it needs a key for administration.

    Args:
        router: the API's.
        services: what answers.
        switch: moves the alias; None if the service was not started with one.
    """

    async def switch_store(body: requests.SwitchRequest) -> Json:
        """Let the alias stand for another store; answered when this worker answers from it.

        The store and its model are opened first. If that fails, nothing changes.
        """
        return Json(await asyncio.to_thread(_switch, services, switch, body.store))

    add_route(
        router,
        "POST",
        "/admin/switch",
        switch_store,
        "switchStore",
        "service",
        model=answers.Switched,
    )


def _switch(services: Services, switch: Switch | None, store: str) -> dict[str, object]:
    """Switch, and say from what to what.

    Raises:
        BusyError: another switch is going on.
        ValueError: the service serves no alias, or the store cannot be switched to.
    """
    if switch is None:
        message = "this service was started with a store; start it with an alias to switch"
        raise ValueError(message)
    try:
        switched = switch.to(store)
    except BusyError:
        raise
    except FashionCLIPError as exc:  # whoever has a key for this may see where the store is
        raise ValueError(str(exc)) from exc
    newest = services.newest
    return {
        "old": switched.old,
        "new": switched.new,
        "products": newest.count,
        "model": newest.meta.model,
    }
