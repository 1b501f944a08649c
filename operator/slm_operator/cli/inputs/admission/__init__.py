"""What an API server with our CRDs would say to a manifest, asked without one: `answer.asked` is the door.

The CRD itself is asked: its schema through jsonschema, its rules through a CEL library. So a rule is written once, in
`slm_operator.api`, and `tests/data/admission` holds that both give equal answers.
"""
