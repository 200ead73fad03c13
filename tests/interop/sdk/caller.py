"""Calls operations of the SDK, one JSON line each; runs in the SDK's own environment, as a script.

The first line says where the backend is and who calls. Each further line is a call; each answer is
one line: what the SDK made of it, and the JSON that it made it from.
"""

import datetime
import importlib
import inspect
import json
import pkgutil
import re
import sys
from urllib.parse import urlsplit, urlunsplit

from verizon import models
from verizon.configuration import Configuration
from verizon.exceptions.api_exception import APIException
from verizon.http.auth.thingspace_oauth import ThingspaceOauthCredentials as OauthCredentials
from verizon.http.auth.vz_m2m_token import VZM2mTokenCredentials as SessionCredentials
from verizon.verizon_client import VerizonClient as Client

# One model a module: SomeModel lives in some_model, with underscores that follow no simple rule.
MODULES = {info.name.replace("_", ""): info.name for info in pkgutil.iter_modules(models.__path__)}
SERVER = re.compile(r"Server\.SOFTWARE_MANAGEMENT_V([123])\b")


def configuration(rest, **credentials):
    """The SDK knows fixed hosts only; paths stay as they are, the host becomes the backend's."""
    ours = urlsplit(rest)

    class Local(Configuration):
        def get_base_uri(self, *server):
            theirs = urlsplit(super().get_base_uri(*server))
            return urlunsplit(theirs._replace(scheme=ours.scheme, netloc=ours.netloc))

    return Local(timeout=20, **credentials)


def operations(client):
    """Every operation of v1, v2 and v3 that the SDK has, with the names of its parameters."""
    found = []
    for attribute in vars(type(client)):
        controller = getattr(client, attribute, None)
        for method in vars(type(controller)):
            if method.startswith("_") or not inspect.ismethod(getattr(controller, method)):
                continue
            function = getattr(controller, method)
            version = SERVER.search(inspect.getsource(function))
            if version:
                parameters = list(inspect.signature(function).parameters)
                found.append([int(version[1]), attribute, method, parameters])
    return found


def argument(value):
    if isinstance(value, list):
        return [argument(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "date" in value:
        return datetime.date.fromisoformat(value["date"])
    if "file" in value:
        return open(value["file"], "rb")
    module = importlib.import_module(f"{models.__name__}.{MODULES[value['model'].lower()]}")
    model = getattr(module, value["model"])
    return model(**{name: argument(item) for name, item in value["fields"].items()})


def parsed(value):
    """What the SDK's model holds, with the names of its fields and which of them must be there."""
    if isinstance(value, list):
        return [parsed(item) for item in value]
    if isinstance(value, datetime.datetime):
        return {"time": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"date": value.isoformat()}
    if hasattr(value, "datetime"):  # the SDK's wrapper of a timestamp
        return {"time": value.datetime.isoformat()}
    if not hasattr(value, "_names"):
        return value
    return {
        "model": type(value).__name__,
        "fields": {name: parsed(item) for name, item in vars(value).items()},
        "names": value._names,
        "optional": getattr(value, "_optionals", []),
    }


def call(client, asked):
    method = getattr(getattr(client, asked["client"]), asked["method"])
    arguments = {name: argument(value) for name, value in asked["arguments"].items()}
    try:
        answer = method(**arguments)
    except APIException as error:
        return {
            "error": type(error).__name__,
            "status": error.response_code,
            "code": getattr(error, "error_code", None),
            "message": getattr(error, "error_message", None),
            "provider": getattr(error, "error", None),
            "raw": error.response.text,
        }
    return {"status": answer.status_code, "parsed": parsed(answer.body), "raw": answer.text}


def main():
    who = json.loads(sys.stdin.readline())
    oauth = OauthCredentials(oauth_client_id=who["name"], oauth_client_secret=who["secret"])
    client = Client(config=configuration(who["rest"], thingspace_oauth_credentials=oauth))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "session" in asked:
                session = SessionCredentials(vz_m2m_token=asked["session"])
                client = Client(
                    config=configuration(
                        who["rest"],
                        thingspace_oauth_credentials=oauth,
                        vz_m2m_token_credentials=session,
                    )
                )
                answer = {"operations": operations(client)}
            else:
                answer = call(client, asked)
        except Exception as error:  # the SDK choked; the test shows on what
            answer = {"choked": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
