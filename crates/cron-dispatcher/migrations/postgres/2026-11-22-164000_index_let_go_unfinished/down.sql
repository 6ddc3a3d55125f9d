DROP INDEX runs_let_go_unfinished;
