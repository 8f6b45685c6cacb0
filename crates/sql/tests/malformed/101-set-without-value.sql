SET 'parallelism';
