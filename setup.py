"""Build the native extension: the C data plane and its Cython skin, in one module."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCES = sorted(str(path) for path in Path("src_c").rglob("*.c"))
HEADERS = sorted(str(path) for path in Path("src_c").rglob("*.h"))

SANITIZE = os.environ.get("L4LB_SANITIZE", "")
SANITIZE_FLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []


class BuildNative(build_ext):
    """Says at the end of a long log what to install where the compiler or the headers are missing."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except CompileError as error:
            raise CompileError(
                f"{error}\nl4lb has a native core: building it needs Linux, a C compiler and the headers of Python "
                "(Debian and Ubuntu: apt install gcc libc6-dev python3-dev; Fedora: dnf install gcc python3-devel)"
            ) from error


setup(
    cmdclass={"build_ext": BuildNative},
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
    ),
)
