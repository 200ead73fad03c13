"""Device management and information reporting of one client (LwM2M 1.1 core sections 6.3, 6.4).

A CoAP request becomes an operation by its code, its path and a few options (core table 7.3-2 of
the transport bindings)::

    GET                    Read; with Accept 40 Discover; with Observe 0 or 1 Observe and its end
    PUT                    Write (replace); without a payload but with queries Write-Attributes
    POST on an object      Create
    POST on an instance    Write (partial update)
    POST on a resource     Execute
    DELETE on an instance  Delete
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from protocols.coap.blockwise import BodyAssembler
from protocols.coap.endpoint import CoapEndpoint
from protocols.coap.message import Message, response
from protocols.coap.numbers import Code, ContentFormat
from protocols.coap.options import Options, make_options
from protocols.coap.peer import Peer
from protocols.lwm2m import codecs
from protocols.lwm2m.attributes import AttributesRefused, AttributeStore
from protocols.lwm2m.codecs import CodecError, UnsupportedFormat, link, tlv
from protocols.lwm2m.codecs.link import Link
from protocols.lwm2m.codecs.text import encode_value
from protocols.lwm2m.errors import OperationRefused
from protocols.lwm2m.model import definition_of, type_of
from protocols.lwm2m.objects import FIRMWARE, SERVER, SINGLES, Objects
from protocols.lwm2m.observers import Observers
from protocols.lwm2m.paths import Path, PathError, format_path, parse_segments
from protocols.lwm2m.records import Record

if TYPE_CHECKING:
    from agent.device import Device
    from protocols.lwm2m.firmware import FirmwareObject

__all__ = ["Management"]

_PACKAGE = (FIRMWARE, 0, 0)
_URI = (FIRMWARE, 0, 1)
_TEXT = make_options(content_format=ContentFormat.TEXT)
# What a Read without Accept is answered in: text for one value, as every server understands it, and
# TLV, the format that 1.0 made mandatory, for more.
_DEFAULT_SINGLE = codecs.TEXT
_DEFAULT_MULTIPLE = codecs.TLV


class Owner(Protocol):
    """The client, as seen from its management of objects."""

    def execute(self, object_id: int, resource: int) -> None:
        """Run an executable resource other than the firmware's."""

    def written(self, path: Path) -> None:
        """The server changed what is at or under ``path``."""

    def learned(self, path: Path) -> None:
        """The server got to know what is at or under ``path``."""


class Management:
    """Answers the server's operations."""

    __slots__ = (
        "_assembler",
        "_attributes",
        "_device",
        "_endpoint",
        "_firmware",
        "_owner",
        "objects",
        "observers",
    )

    def __init__(
        self,
        device: Device,
        endpoint: CoapEndpoint,
        objects: Objects,
        firmware: FirmwareObject,
        owner: Owner,
    ) -> None:
        self._device = device
        self._endpoint = endpoint
        self._firmware = firmware
        self._owner = owner
        self._attributes = AttributeStore()
        self._assembler: BodyAssembler | None = None
        self.objects = objects
        self.observers = Observers(device, endpoint, objects, self._attributes, self, owner)

    def stop(self) -> None:
        self.observers.stop()

    # -- the request ----------------------------------------------------------------------------

    def handle(self, peer: Peer, request: Message) -> Message:
        """The answer to one request of the server."""
        try:
            path = parse_segments(request.options.path)
            code = request.code
            if code == Code.GET:
                return self._get(peer, path, request)
            if code == Code.PUT:
                if path == _PACKAGE:
                    return self._firmware.write_package(request, self._device.runtime.clock.now())
                return self._put(peer, path, request)
            if code == Code.POST:
                return self._post(peer, path, request)
            if code == Code.DELETE:
                return self._delete(path)
        except OperationRefused as refused:
            return response(refused.code, payload=refused.text.encode())
        except PathError as error:
            return response(Code.NOT_FOUND, payload=str(error).encode())
        except UnsupportedFormat as error:
            return response(Code.UNSUPPORTED_CONTENT_FORMAT, payload=str(error).encode())
        except (CodecError, AttributesRefused) as error:
            return response(Code.BAD_REQUEST, payload=str(error).encode())
        return response(Code.METHOD_NOT_ALLOWED)

    def _get(self, peer: Peer, path: Path, request: Message) -> Message:
        options = request.options
        if options.accept == codecs.LINK:
            return self._discover(path)
        if options.observe is None:
            answer = self.read(path, options.accept)
            self._owner.learned(path)
            return answer
        if options.observe == 0:
            return self.observers.register(peer, request.token, path, options.accept)
        self.observers.cancel(peer, request.token, path)
        answer = self.read(path, options.accept)
        self._owner.learned(path)
        return answer

    # -- Read and Discover ----------------------------------------------------------------------

    def read(self, path: Path, accept: int | None) -> Message:
        """Raises :class:`OperationRefused`."""
        if not path:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "the root cannot be read")
        if accept is None or accept == codecs.TEXT:
            reader = SINGLES.get(path)
            if reader is not None:
                return Message(Code.CONTENT, b"", _TEXT, encode_value(reader(self._device)))
        records = self.objects.records(path)
        definition = definition_of(path)
        single = len(path) == 4 or (
            len(path) == 3 and definition is not None and not definition.multiple
        )
        wanted = accept
        if wanted is None:
            wanted = _DEFAULT_SINGLE if single else _DEFAULT_MULTIPLE
        try:
            payload = codecs.encode(wanted, path, records, type_of)
        except CodecError as error:
            raise OperationRefused(Code.NOT_ACCEPTABLE, str(error)) from None
        return Message(Code.CONTENT, b"", make_options(content_format=wanted), payload)

    def _discover(self, path: Path) -> Message:
        if not path or len(path) > 3:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "Discover takes an object or deeper")
        objects = self.objects
        definition = objects.definition(path[0])
        links: list[Link] = []
        if len(path) == 3:
            resource = objects.resource(path)
            attributes = self._attributes.effective(path).link_attributes()
            held = objects.value(*path) if resource.readable else None
            if isinstance(held, Mapping):
                attributes = (("dim", str(len(held))), *attributes)
            links.append(Link(format_path(path), attributes))
        else:
            if len(path) == 1:
                own = self._attributes.own(path).link_attributes()
                if definition.version != "1.0":
                    own = (("ver", definition.version), *own)
                links.append(Link(format_path(path), own))
            for instance in objects.instances(path[0]):
                if len(path) == 2 and instance != path[1]:
                    continue
                links += self._discover_instance((path[0], instance), resources=True)
            if len(links) == 0:
                raise OperationRefused(Code.NOT_FOUND, f"no instance {format_path(path)}")
        options = make_options(content_format=codecs.LINK)
        return Message(Code.CONTENT, b"", options, link.encode(links))

    def _discover_instance(self, path: Path, *, resources: bool) -> list[Link]:
        own = self._attributes.own
        links = [Link(format_path(path), own(path).link_attributes())]
        for resource in self.objects.present(path[0], path[1]):
            where = (*path, resource.id)
            attributes = own(where).link_attributes()
            held = self.objects.value(*where) if resource.readable else None
            if isinstance(held, Mapping):
                attributes = (("dim", str(len(held))), *attributes)
            links.append(Link(format_path(where), attributes))
        return links

    # -- Write, Write-Attributes ----------------------------------------------------------------

    def _body(self, peer: Peer, request: Message) -> bytes | Message:
        if request.options.block1 is None:
            return request.payload
        if self._assembler is None:
            tuning = self._endpoint.tuning
            self._assembler = BodyAssembler(tuning.max_body, tuning.exchange_lifetime)
        return self._assembler.take(peer, request, self._device.runtime.clock.now())

    def _put(self, peer: Peer, path: Path, request: Message) -> Message:
        options = request.options
        if not path:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "the root cannot be written")
        if options.queries and options.content_format is None and not request.payload:
            self._write_attributes(path, options.queries)
            return response(Code.CHANGED)
        if len(path) == 1:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "Write takes an instance or deeper")
        return self._write(peer, path, request, replace=True)

    def _write_attributes(self, path: Path, queries: tuple[str, ...]) -> None:
        self.objects.definition(path[0])
        if len(path) >= 2 and path[1] not in self.objects.instances(path[0]):
            raise OperationRefused(Code.NOT_FOUND, f"no instance {format_path(path)}")
        kind = self.objects.resource(path).type if len(path) >= 3 else None
        self._attributes.write(path, queries, kind)
        self.observers.attributes_changed(path)

    def _write(self, peer: Peer, path: Path, request: Message, *, replace: bool) -> Message:
        self.objects.check_target(path)
        body = self._body(peer, request)
        if isinstance(body, Message):
            return body
        content_format = request.options.content_format
        if content_format is None:
            content_format = codecs.TEXT
        records = codecs.decode(content_format, path, body, type_of)
        options = _block1_of(request)
        firmware = [record for record in records if record.path[0] == FIRMWARE]
        if firmware:
            return response(self._write_firmware(firmware), options)
        records = self._accepted(path, records)
        if len(path) == 2 and replace:
            self.objects.replace(path, records)
        else:
            self.objects.store(records)
        self._owner.written(path)
        self.observers.changed(path)
        return response(Code.CHANGED, options)

    def _accepted(self, path: Path, records: list[Record]) -> list[Record]:
        """All of them checked before any is taken; unknown optional ones are left out."""
        accepted: list[Record] = []
        for record in records:
            definition = definition_of(record.path)
            if definition is None:
                if len(path) >= 3:
                    raise OperationRefused(Code.NOT_FOUND, f"no {format_path(record.path)}")
                continue
            if not definition.writable:
                # A server that replaces an instance repeats its id; anything else is refused.
                if record.path[0] == SERVER and record.path[2] == 0:
                    continue
                text = f"{format_path(record.path)} has no Write"
                raise OperationRefused(Code.METHOD_NOT_ALLOWED, text)
            self.objects.check_write(record)
            accepted.append(record)
        return accepted

    def _write_firmware(self, records: list[Record]) -> Code:
        """A Write at 5/0, or to 5/0/1: one of the package and the URI at a time."""
        if len(records) != 1 or records[0].path not in (_PACKAGE, _URI):
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "write either /5/0/0 or /5/0/1")
        value = records[0].value
        if isinstance(value, bytes):
            message = Message(Code.PUT, b"", make_options(content_format=codecs.OPAQUE), value)
            now = self._device.runtime.clock.now()
            return Code(self._firmware.write_package(message, now).code)
        return self._firmware.write_uri(str(value))

    # -- Execute, Create, Delete ----------------------------------------------------------------

    def _post(self, peer: Peer, path: Path, request: Message) -> Message:
        if not path:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "the root takes no POST")
        if len(path) == 1:
            return self._create(peer, path, request)
        if len(path) == 2:
            return self._write(peer, path, request, replace=False)
        if len(path) == 4:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "Execute takes a resource")
        resource = self.objects.resource(path)
        if not resource.executable:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, f"{format_path(path)} has no Execute")
        if path == (FIRMWARE, 0, 2):
            code = self._firmware.execute()
            self._owner.learned(path)
            return response(code)
        self._owner.execute(path[0], path[2])
        return response(Code.CHANGED)

    def _create(self, peer: Peer, path: Path, request: Message) -> Message:
        self.objects.definition(path[0])
        body = self._body(peer, request)
        if isinstance(body, Message):
            return body
        content_format = request.options.content_format
        if content_format is None:
            content_format = codecs.TLV
        instance: int | None = None
        if content_format == codecs.TLV and not tlv.names_instances(body):
            existing = self.objects.instances(path[0])
            instance = next(number for number in range(65535) if number not in existing)
            base: Path = (path[0], instance)
        else:
            base = path
        records = codecs.decode(content_format, base, body, type_of) if body else []
        named = {record.path[1] for record in records}
        if len(named) > 1:
            raise OperationRefused(Code.BAD_REQUEST, "Create takes one instance")
        if named:
            instance = named.pop()
        definition = self.objects.definition(path[0])
        if not definition.multiple:
            self.objects.create(path[0], instance, [])
        accepted = self._accepted((path[0], instance or 0), records)
        created = self.objects.create(path[0], instance, accepted)
        self._owner.written((path[0], created))
        self.observers.changed((path[0],))
        return response(Code.CREATED, make_options(location=(str(path[0]), str(created))))

    def _delete(self, path: Path) -> Message:
        if path:
            self.objects.definition(path[0])
        if len(path) != 2:
            raise OperationRefused(Code.METHOD_NOT_ALLOWED, "Delete takes an instance")
        self.objects.delete(path)
        self._attributes.remove_under(path)
        self.observers.removed(path)
        self._owner.written(path)
        return response(Code.DELETED)


def _block1_of(request: Message) -> Options:
    return make_options(block1=request.options.block1)
