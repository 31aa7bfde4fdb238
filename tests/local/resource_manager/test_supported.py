from local.resource_manager.functions import FUNCTIONS
from local.resource_manager.providers import PROVIDERS
from local.resource_manager.supported import PAGE, main, page


def test_the_published_list_is_what_is_registered() -> None:
    assert PAGE.read_text() == page(), "python -m local.resource_manager.supported"
    assert main(["--check"]) == 0


def test_the_published_list_names_every_type_and_function() -> None:
    text = PAGE.read_text()
    assert all(f"`{one.type}`" in text for one in PROVIDERS.values())
    assert all(f"`{one.name}`(" in text for one in FUNCTIONS.values())
