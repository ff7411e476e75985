"""The rooms behind learn.py: each has one job, and learn.py is the list of commands.

    exercises        the lists in exercises.toml, and where a student's work lies
    function_bodies  cutting, blanking and grafting the body of one function
    number_answers   predict and estimate: reading a number as people write it, and judging it
    bug_hunts        find the bug: plant it, print both copies anew, judge the student's test
    student          start, check, next, hint, reveal, run
    progress         status, and what is remembered between calls
    stand_ins        what is broken or blank elsewhere costs its own exercise alone
    handout          export: a tree for a class, without solutions
    workflows        how classes are run: GitHub Actions, GitLab CI, Gradescope
    submissions      reading what was handed in: folders, archives, renamed files
    grading          one submission or a class
    allowed_code     what a graded file may not name
    clean_runs       an exercise's tests on a student's file, each time in a fresh copy
    limited_runs     strangers' code under limits of time, memory and place
    write_fence      inside such a run: writes stay at home, judges stay what they were
    callers_data     a function leaves what its caller passes as it was: the watch over that
    sealed_bodies    the right body of a bug hunt, packed
    contest          a race for the best small model; contest_judge runs in its clean copy
    quiz             questions with the wrong idea behind each wrong option; qti packs them
"""
