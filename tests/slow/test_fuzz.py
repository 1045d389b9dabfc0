"""Many drawn runs, each cut in two drawn ways."""

import hypothesis

from tests.test_fuzz import cases, check


@hypothesis.settings(max_examples=60, deadline=None, print_blob=True)
@hypothesis.given(cases())
def test_any_cut_is_any_other_often(case):
    check(case)
