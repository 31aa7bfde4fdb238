"""Timer statuses in blobs, at the place where the real host keeps them.

Container `azure-webjobs-hosts`, blob `timers/{host id}/{function}/status` of AzureWebJobsStorage.
"""

from __future__ import annotations

import contextlib

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob.aio import BlobServiceClient

from local.functions_host.timers.status import StoreError

_CONTAINER = "azure-webjobs-hosts"


class BlobStatusStore:
    """See `StatusStore`."""

    def __init__(self, connection_string: str, *, host_id: str) -> None:
        self._service = BlobServiceClient.from_connection_string(
            connection_string, retry_total=0
        )
        self._container = self._service.get_container_client(_CONTAINER)
        self._host_id = host_id

    async def read(self, function: str) -> str | None:
        """See `StatusStore.read`."""
        try:
            stream = await self._container.download_blob(self._name(function), encoding="utf-8")
            return await stream.readall()
        except ResourceNotFoundError:
            return None
        except (AzureError, OSError) as error:
            raise StoreError(str(error)) from error

    async def write(self, function: str, text: str) -> None:
        """See `StatusStore.write`."""
        try:
            try:
                await self._upload(function, text)
            except ResourceNotFoundError:
                with contextlib.suppress(ResourceExistsError):
                    await self._container.create_container()
                await self._upload(function, text)
        except (AzureError, OSError) as error:
            raise StoreError(str(error)) from error

    async def close(self) -> None:
        """See `StatusStore.close`."""
        await self._service.close()

    async def _upload(self, function: str, text: str) -> None:
        await self._container.upload_blob(self._name(function), text, overwrite=True)

    def _name(self, function: str) -> str:
        return f"timers/{self._host_id}/{function}/status"
