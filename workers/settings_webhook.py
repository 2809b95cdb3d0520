"""The HTTP webhook: who may send alerts, how large, how often."""

from pydantic import Field

from workers.settings_types import Section

__all__ = ["WebhookSettings"]


class WebhookSettings(Section):
    """The server of `POST /webhook`."""

    host: str = Field("127.0.0.1", min_length=1, description="address that the server listens on")
    port: int = Field(8780, ge=0, le=65_535, description="its port; 0: any free one")
