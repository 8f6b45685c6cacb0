SELECT 'it is FROM t
