<?php
// A receiver that verifies with the PHP of docs/receiving.md. The query's `hub` is the secret.

require __DIR__ . '/snippet.php';

/** The request's first line, its headers in lower case, and its body; none if the connection ended before. */
function read_request($connection): ?array {
    $line = fgets($connection);
    if ($line === false) {
        return null;
    }
    $headers = [];
    while (($header = fgets($connection)) !== false && trim($header) !== '') {
        [$name, $value] = explode(':', $header, 2);
        $headers[strtolower($name)] = trim($value);
    }
    $length = (int) ($headers['content-length'] ?? 0);
    return [$line, $headers, $length > 0 ? stream_get_contents($connection, $length) : ''];
}

$server = stream_socket_server('tcp://127.0.0.1:0');
echo substr(strrchr(stream_socket_get_name($server, false), ':'), 1), "\n";
while ($connection = stream_socket_accept($server, -1)) {
    if ($request = read_request($connection)) {
        [$line, $headers, $body] = $request;
        parse_str((string) parse_url(explode(' ', $line)[1], PHP_URL_QUERY), $query);
        $good = verify($headers['x-hub-signature-256'] ?? '', $body, $query['hub']);
        fwrite($connection, 'HTTP/1.1 ' . ($good ? '204 No Content' : "400 Bad Request\r\nContent-Length: 0"));
        fwrite($connection, "\r\nConnection: close\r\n\r\n");
    }
    fclose($connection);
}
