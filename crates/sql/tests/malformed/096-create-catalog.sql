CREATE CATALOG c WITH ('type' = 'hive');
