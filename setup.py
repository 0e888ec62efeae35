"""What pyproject.toml cannot say: where cffi finds the extension, and its ABI."""

from setuptools import setup

setup(
    cffi_modules=["native/src/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
