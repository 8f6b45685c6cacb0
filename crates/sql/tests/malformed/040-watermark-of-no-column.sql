CREATE TABLE bid (
  dateTime TIMESTAMP(3),
  WATERMARK FOR datetime AS datetime
) WITH ('connector' = 'datagen');
