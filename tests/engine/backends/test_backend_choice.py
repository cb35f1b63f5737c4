from engine.backends.backend_choice import computes


def test_llama_cpp_computes_unless_the_other_one_is_named() -> None:
    assert [computes(each) for each in ("auto", "llamacpp", "native")] == ["llamacpp", "llamacpp", "native"]
