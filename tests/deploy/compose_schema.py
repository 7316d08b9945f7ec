"""What a Compose file may have, as far as ours uses it, from the Compose specification: the rest is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[str, Field(pattern=r"^127\.0\.0\.1:\d+:\d+$")]
Volume = Annotated[str, Field(pattern=r"^[a-z]+:/\S+$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Build(Strict):
    context: str
    dockerfile: str


class Deploy(Strict):
    replicas: int


class Condition(Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class HealthCheck(Strict):
    test: list[str]
    interval: str
    timeout: str
    retries: int


class Service(Strict):
    image: str
    build: Build | None = None
    command: str | None = None
    environment: dict[str, str]
    ports: list[Port] = []
    volumes: list[Volume] = []
    depends_on: dict[str, Condition] | list[str] = []
    deploy: Deploy = Deploy(replicas=1)
    healthcheck: HealthCheck | None = None
    cap_drop: list[str] = []
    security_opt: list[str]
    shm_size: str | None = None
    restart: Literal["no", "always", "on-failure", "unless-stopped"]


class Compose(BaseModel):
    """Keys that begin with x- are for people; any other that is not here is refused."""

    model_config = ConfigDict(extra="allow")
    name: str
    services: dict[str, Service]
    volumes: dict[str, dict[str, str]]

    def unknown(self) -> list[str]:
        return [key for key in self.model_extra or {} if not key.startswith("x-")]
