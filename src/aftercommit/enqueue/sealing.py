"""Encrypts the secrets of a call into its payload, and decrypts them for its run.

    {"args": [7, "[secret]"], "kwargs": {}, "secrets": "1.<id of the key>.<encrypted>"}

Where a secret was there is a mark, so whoever shows arguments shows no secret. All secrets of a
call are encrypted together with their places in it, for the id of their job: none can be moved
to another place or another job.
"""

import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib import import_module
from typing import Any
from uuid import UUID

from aftercommit.enqueue.normal import Normalizer
from aftercommit.enqueue.payload import DEEPEST, dump_arguments, dump_result, with_moment
from aftercommit.enqueue.secret import Secret, is_secret
from aftercommit.errors import (
    ConfigurationError,
    PayloadError,
    PayloadTooLarge,
    SecretsUnreadable,
)
from aftercommit.options.conf import BackendOptions
from aftercommit.options.secret_keys import SecretKey
from aftercommit.places import with_limit
from aftercommit.stored import SECRETS, loaded_secrets
from aftercommit.values import NewJob

MARK = "[secret]"
FORMAT = "1"
Place = tuple[str | int, ...]
Call = tuple[list[Any], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealing:
    """A call with secrets that has no job yet."""

    masked: str  # JSON text
    for_keys: str  # the same with hashes where the secrets are; not stored
    secrets: str  # JSON text: places and values
    key: SecretKey
    task_path: str
    limit: int

    def into(self, job: NewJob, moment: datetime | None, *, has_holes: bool) -> NewJob:
        """Return the job with the secrets of the call, encrypted for it."""
        payload_for = partial(self._payload_for, moment, has_holes)
        return replace(job, payload=payload_for(job.id), payload_for=payload_for)

    def _payload_for(self, moment: datetime | None, has_holes: bool, job_id: UUID) -> str:
        payload = with_secrets(self.masked, sealed(self.key, self.secrets, job_id))
        if len(payload) > self.limit:
            raise PayloadTooLarge(
                what="the arguments, with their encrypted secrets,",
                size=len(payload),
                limit=self.limit,
                task_path=self.task_path,
            )
        return with_moment(with_limit(payload, self.limit) if has_holes else payload, moment)


def sealing(
    task_path: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: BackendOptions
) -> Sealing:
    """Return a call whose arguments have secrets in them, ready to become a job.

    Raises ``ConfigurationError`` without a key or ``cryptography``, and as ``dump_arguments``.
    """
    _cipher()
    key = next(iter(options.secret_keys), None)
    if key is None:
        raise ConfigurationError(
            f"{task_path}: an argument is a Secret, and the backend has no key to encrypt it "
            "with. Nothing was enqueued.\n"
            "Fix: 'manage.py aftercommit secrets new-key' prints a key; put it into "
            "OPTIONS['secret_keys']."
        )
    limit, strict = options.max_payload, options.strict_json
    if not strict:
        normal = Normalizer(most=limit, deepest=DEEPEST)
        args, kwargs = normal.of(list(args)), normal.of(dict(kwargs))
    dump = partial(dump_arguments, task_path=task_path, limit=limit, strict=strict)
    taken = _Taken(limit)
    masked = taken.out_of(args, kwargs, lambda _value: MARK)
    dump_secret = partial(_dump_secret, task_path=task_path, limit=limit, strict=strict)
    texts = [(place, dump_secret(value, place)) for place, value in taken.found]
    hashes = iter([hashed(key, task_path, text) for _place, text in texts])
    return Sealing(
        masked=dump(*masked),
        for_keys=dump(*_Taken(limit).out_of(args, kwargs, lambda _value: next(hashes))),
        secrets=f"[{','.join(f'[{json.dumps(place)},{text}]' for place, text in texts)}]",
        key=key,
        task_path=task_path,
        limit=limit,
    )


def sealed(key: SecretKey, secrets: str, job_id: UUID) -> str:
    """Return the secrets of a job, encrypted."""
    text = _cipher().encrypt(key.key, secrets.encode(), place=_place_of(job_id))
    return f"{FORMAT}.{key.id}.{text}"


def with_secrets(payload: str, text: str) -> str:
    """Add the encrypted secrets to a payload, which is a JSON text that has none."""
    return f'{payload[:-1]},"{SECRETS}":"{text}"}}'


def resealed(payload: str, keys: Sequence[SecretKey], job_id: UUID) -> str:
    """Return a payload whose secrets are encrypted with the first key; raises as ``opened``."""
    text = loaded_secrets(payload)
    if text is None or not keys or text.startswith(f"{FORMAT}.{keys[0].id}."):
        return payload
    before, _text, after = payload.rpartition(text)
    return f"{before}{sealed(keys[0], opened(text, keys, job_id), job_id)}{after}"


def opened(text: Any, keys: Iterable[SecretKey], job_id: UUID) -> str:
    """Return the places and values of encrypted secrets, as JSON.

    Raises ``SecretsUnreadable`` if their key is missing, or somebody has changed them.
    """
    form, key_id, encrypted = text.split(".", 2) if _is_sealed(text) else ("", "", "")
    key = next((one for one in keys if one.id == key_id), None)
    if form != FORMAT:
        raise SecretsUnreadable(job_id=job_id, problem="they are in no form that is known here")
    if key is None:
        raise SecretsUnreadable(
            job_id=job_id, problem=f"OPTIONS['secret_keys'] does not have their key, {key_id}"
        )
    cipher = _cipher()
    try:
        found: bytes = cipher.decrypt(key.key, encrypted, place=_place_of(job_id))
    except cipher.Changed:
        raise SecretsUnreadable(
            job_id=job_id, problem="they were changed, or are those of another job"
        ) from None
    return found.decode()


def missing_key(text: str, keys: Iterable[SecretKey]) -> str:
    """Return the id of the key of encrypted secrets if it is not there, or nothing."""
    key_id = text.split(".", 2)[1] if _is_sealed(text) else ""
    return "" if key_id in {one.id for one in keys} else key_id


def put_back(call: Call, secrets: str) -> list[Secret[Any]]:
    """Put the secrets of a call to their places; return them."""
    args, kwargs = call
    found = []
    for place, value in json.loads(secrets):
        inside: Any = {"args": args, "kwargs": kwargs}
        for step in place[:-1]:
            inside = inside[step]
        inside[place[-1]] = secret = Secret(value)
        found.append(secret)
    return found


def hashed(key: SecretKey, task_path: str, text: str) -> str:
    """Return what stands for a secret where calls are compared: no guess can be tried on it."""
    own = hmac.digest(key.key, b"aftercommit: secrets in keys", "sha256")
    return hmac.new(own, json.dumps([task_path, text]).encode(), "sha256").hexdigest()


class _Taken:
    """Takes the secrets out of the arguments of a call."""

    def __init__(self, most: int) -> None:
        self.found: list[tuple[Place, Any]] = []
        self._left = most  # as many values as ``dump_arguments`` accepts

    def out_of(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], mark: Callable[[Any], Any]
    ) -> Call:
        """Return the arguments with a mark in the place of each secret."""
        new_args = [self._out_of(one, ("args", n), mark) for n, one in enumerate(args)]
        items = kwargs.items()
        return new_args, {name: self._out_of(one, ("kwargs", name), mark) for name, one in items}

    def _out_of(self, value: Any, place: Place, mark: Callable[[Any], Any]) -> Any:
        self._left -= 1
        if is_secret(value):
            self.found.append((place, value.reveal()))
            return mark(value)
        if self._left < 0 or len(place) > DEEPEST + 1:
            return value  # which ``dump_arguments`` refuses
        if isinstance(value, (list, tuple)):
            return [self._out_of(one, (*place, n), mark) for n, one in enumerate(value)]
        if isinstance(value, dict):
            return {name: self._out_of(one, (*place, name), mark) for name, one in value.items()}
        return value


def _dump_secret(value: Any, place: Place, *, task_path: str, limit: int, strict: bool) -> str:
    try:
        return dump_result(
            value, what="a secret", task_path=task_path, limit=limit, strict=strict
        )
    except PayloadError:  # which may name a part of it
        first, *others = place
        path = f"{first}{''.join(f'[{one!r}]' for one in others)}"
        problem = "what this Secret holds is not JSON"
        raise PayloadError(path=path, problem=problem, task_path=task_path) from None


def _is_sealed(text: Any) -> bool:
    return isinstance(text, str) and text.count(".") >= FORMAT.count(".") + 2


def _place_of(job_id: UUID) -> bytes:
    return f"aftercommit:{job_id}".encode()


def _cipher() -> Any:
    """Return the module that encrypts: only who has a secret needs ``cryptography``."""
    try:
        return import_module("aftercommit.enqueue.cipher")
    except ImportError as error:
        raise ConfigurationError(
            f"A Secret needs the package cryptography, which cannot be imported: {error}.\n"
            "Fix: pip install 'aftercommit[secrets]'."
        ) from error
