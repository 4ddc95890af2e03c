"""Prints the SAM template as the plain CloudFormation template that AWS makes of it.

sam_translate.py TEMPLATE [NAME=VALUE...]: the template's file, and parameters that differ from their defaults. Runs with
the Python of aws-sam-cli.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

template = yaml_parse(Path(sys.argv[1]).read_text())
parameters = dict(argument.split("=", 1) for argument in sys.argv[2:])
# The loader would fetch AWS's managed policies, of which the template uses none.
print(json.dumps(transform(template, parameters, SimpleNamespace(load=dict)), indent=2))
