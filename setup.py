"""Build the native extension: the C data plane and its Cython skin, in one module."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = sorted(str(path) for path in Path("src_c").glob("*.c"))
HEADERS = sorted(str(path) for path in Path("src_c").glob("*.h"))

SANITIZE = os.environ.get("L4LB_SANITIZE", "")
SANITIZE_FLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []

setup(
    ext_modules=cythonize(
        [
            Extension(
                "l4lb.engine._native",
                ["l4lb/engine/_native.pyx", *SOURCES],
                depends=HEADERS,
                include_dirs=["src_c"],
                define_macros=[("_GNU_SOURCE", None)],
                extra_compile_args=[
                    *("-std=gnu11", "-O2", "-g", "-pthread", "-fvisibility=hidden", "-fno-omit-frame-pointer"),
                    *SANITIZE_FLAGS,
                ],
                extra_link_args=["-pthread", *SANITIZE_FLAGS],
            )
        ],
        compiler_directives={"language_level": 3},
    )
)
