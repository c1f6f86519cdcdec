DROP TABLE entitlements;
DROP TABLE refunds;
DROP TABLE charges;
