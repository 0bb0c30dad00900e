"""The service without HTTP."""

from app.service.build import build_service
from app.service.parts import Service

__all__ = ["Service", "build_service"]
