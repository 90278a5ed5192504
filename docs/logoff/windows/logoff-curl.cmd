@echo off
rem Logs this computer's address out of the gateway, by the curl.exe that Windows has (10, version 1803, and later).
rem See docs/LOGOFF.md.
rem   logoff-curl.cmd gateway.example.com            under TLS, where Windows trusts the certificate
rem   logoff-curl.cmd gateway.example.com insecure   under TLS, whatever the certificate is
rem   logoff-curl.cmd gateway.example.com http       without TLS
if "%~1"=="" exit /b 64
setlocal
set "URL=https://%~1:4081/internal/logout"
set "TRUST="
if /i "%~2"=="insecure" set "TRUST=--insecure"
if /i "%~2"=="http" set "URL=http://%~1:4080/internal/logout"
"%SystemRoot%\System32\curl.exe" --silent --fail --noproxy * --max-time 5 --output NUL %TRUST% "%URL%"
exit /b %errorlevel%
