DROP TABLE event_feeds;
DROP TABLE events;
DROP TABLE orders;
DROP TABLE products;
