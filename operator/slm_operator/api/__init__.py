"""The API as users write it: pydantic types, from which the CRDs are generated. Imports nothing else of the operator."""
