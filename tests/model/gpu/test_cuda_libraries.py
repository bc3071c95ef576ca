"""The libraries of CUDA are looked for by the names that their versions have."""

from pathlib import Path

from server.model.gpu.cuda_libraries import Library, find_libraries


def test_a_library_is_where_the_linker_found_it(tmp_path: Path) -> None:
    def load(name: str) -> None:
        if name not in ("libcublas.so.13", "libcudart.so.13", "libcublasLt.so.13"):
            raise OSError

    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 9 /usr/lib/with a space/libcublas.so.13.0.2\n"
        "7f02-7f03 r-xp 00000000 08:01 8 /site-packages/nvidia/libcublasLt.so.13\n"
        "7f04-7f05 rw-p 00000000 00:00 0\n"
    )
    found = {library.name: library for library in find_libraries(13, load, maps)}
    assert found["libcublas.so.13"].path == "/usr/lib/with a space/libcublas.so.13.0.2"
    assert found["libcublasLt.so.13"].path == "/site-packages/nvidia/libcublasLt.so.13"
    assert found["libcudart.so.13"].path == "libcudart.so.13"  # there, and the system says no more
    assert found["libcudnn.so.9"] == Library("libcudnn.so.9", "nvidia-cudnn-cu13", True, None)
    assert not found["libnvrtc.so.13"].needed


def test_a_system_without_maps_knows_names_only(tmp_path: Path) -> None:
    libraries = find_libraries(14, lambda _: None, tmp_path / "missing")
    assert all(library.path == library.name for library in libraries)
    assert {"libcublas.so.14", "libcudart.so.14"} < {library.name for library in libraries}
