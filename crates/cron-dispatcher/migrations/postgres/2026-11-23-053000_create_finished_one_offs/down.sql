DROP TABLE finished_one_offs;
