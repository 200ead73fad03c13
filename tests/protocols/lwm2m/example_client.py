"""The example client of the LwM2M specification (appendix F), as records, and its printed payloads.

The payloads are those that OMA-TS-LightweightM2M_Core prints in section 7.4 (data formats).
"""

from __future__ import annotations

from protocols.lwm2m.model import ResourceType, type_of
from protocols.lwm2m.paths import Path
from protocols.lwm2m.records import ObjectLink, Record

DEVICE = [
    Record((3, 0, 0), "Open Mobile Alliance"),
    Record((3, 0, 1), "Lightweight M2M Client"),
    Record((3, 0, 2), "345000123"),
    Record((3, 0, 3), "1.0"),
    Record((3, 0, 6, 0), 1),
    Record((3, 0, 6, 1), 5),
    Record((3, 0, 7, 0), 3800),
    Record((3, 0, 7, 1), 5000),
    Record((3, 0, 8, 0), 125),
    Record((3, 0, 8, 1), 900),
    Record((3, 0, 9), 100),
    Record((3, 0, 10), 15),
    Record((3, 0, 11, 0), 0),
    Record((3, 0, 13), 1367491215),
    Record((3, 0, 14), "+02:00"),
    Record((3, 0, 16), "U"),
]

DEVICE_TLV = bytes.fromhex(
    "C80014 4F70656E204D6F62696C6520416C6C69616E6365"
    "C80116 4C69676874776569676874204D324D20436C69656E74"
    "C80209 333435303030313233"
    "C303 312E30"
    "8606 410001 410105"
    "880708 42000ED8 42011388"
    "8708 41007D 42010384"
    "C10964 C10A0F 830B 410000 C40D5182428F C60E2B30323A3030 C11055"
)

DEVICE_SENML_CBOR = bytes.fromhex(
    "90a32165 2f332f302f 00 6130 03 74 4f70656e204d6f62696c6520416c6c69616e6365"
    "a2006131 03 76 4c69676874776569676874204d324d20436c69656e74"
    "a200613203 69 333435303030313233 a200613303 63312e30"
    "a20063362f300201 a20063362f310205 a20063372f3002190ed8 a20063372f3102191388"
    "a20063382f3002187d a20063382f3102190384 a2006139021864 a200623130020f"
    "a2006431312f300200 a200623133021a5182428f a20062313403662b30323a3030 a200623136036155"
)

DEVICE_SENML_JSON = (
    b'[{"bn":"/3/0/","n":"0","vs":"Open Mobile Alliance"},'
    b'{"n":"1","vs":"Lightweight M2M Client"},'
    b'{"n":"2","vs":"345000123"},'
    b'{"n":"3","vs":"1.0"},'
    b'{"n":"6/0","v":1},'
    b'{"n":"6/1","v":5},'
    b'{"n":"7/0","v":3800},'
    b'{"n":"7/1","v":5000},'
    b'{"n":"8/0","v":125},'
    b'{"n":"8/1","v":900},'
    b'{"n":"9","v":100},'
    b'{"n":"10","v":15},'
    b'{"n":"11/0","v":0},'
    b'{"n":"13","v":1367491215},'
    b'{"n":"14","vs":"+02:00"},'
    b'{"n":"16","vs":"U"}]'
)

DEVICE_JSON_OLD = (
    b'{"bn":"/3/0/","e":'
    + DEVICE_SENML_JSON.replace(b'"bn":"/3/0/",', b"").replace(b'"vs"', b'"sv"')
    + b"}"
)

# Access control: two instances, a multiple resource with an id of 16 bits.
ACCESS_CONTROL = [
    Record((2, 0, 0), 1),
    Record((2, 0, 1), 0),
    Record((2, 0, 2, 127), 7),
    Record((2, 0, 3), 127),
    Record((2, 2, 0), 3),
    Record((2, 2, 1), 0),
    Record((2, 2, 2, 127), 7),
    Record((2, 2, 2, 310), 1),
    Record((2, 2, 3), 127),
]
ACCESS_CONTROL_TLV = bytes.fromhex(
    "08000E C10001 C10100 8302 417F07 C1037F 080212 C10003 C10100 8702 417F07 61013601 C1037F"
)

# Object links.
LINKS = [
    Record((65, 0, 0, 0), ObjectLink(66, 0)),
    Record((65, 0, 0, 1), ObjectLink(66, 1)),
    Record((65, 0, 1), "8613800755500"),
    Record((65, 0, 2), 0x12345678),
]
LINKS_TLV = bytes.fromhex(
    "88000C 440000420000 440100420001 C8010D 38363133383030373535353030 C40212345678"
)

_EXAMPLE_TYPES = {
    (2, 0): ResourceType.INTEGER,
    (2, 1): ResourceType.INTEGER,
    (2, 2): ResourceType.INTEGER,
    (2, 3): ResourceType.INTEGER,
    (65, 0): ResourceType.OBJLNK,
    (65, 1): ResourceType.STRING,
    (65, 2): ResourceType.INTEGER,
    (72, 2): ResourceType.FLOAT,
}


def example_type(path: Path) -> ResourceType | None:
    return _EXAMPLE_TYPES.get((path[0], path[2])) or type_of(path)
