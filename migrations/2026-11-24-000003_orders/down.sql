DROP TABLE event_feeds;
DROP TABLE events;
DROP TABLE order_items;
DROP TABLE orders;
DROP TABLE products;
